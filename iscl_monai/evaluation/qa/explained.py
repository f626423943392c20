"""What each quantity means and where it comes from, in the words of the page."""

from __future__ import annotations

MEASURED = {
    "Scans": (
        "A simulated fan-beam scanner counts photons behind test objects (Poisson counts, electronic noise, "
        "filtered backprojection with a Hann kernel). Each object is scanned many times with independent noise at "
        "each dose; a stack of neighbouring slices of one patient once."
    ),
    "Phantom": (
        "Its seed decides anatomy, places, sizes and contrasts of lesions and calcifications, the places of rods and "
        "discs, the noise, and one dose between the usual ones. It is drawn for each run, unless it is given."
    ),
    "Noise": (
        "On this page always the standard deviation over scans of the same object, root mean square over a region: the "
        "same as std(a - b) / √2 of pairs. Anatomy is alike in all and drops out. AAPM TG-233. Regions: flat parts of "
        "water and of anatomy, and the middle of each tissue."
    ),
    "Noise power spectrum": (
        "dx dy / (Nx Ny) <|DFT|²> of 64 x 64 patches in water, after taking the mean over scans away, "
        "averaged over directions. Its sum times du dv is σ², which is checked. ICRU Report 87. In tissues, where no "
        "patch fits, grain: difference of neighbouring pixels over the standard deviation."
    ),
    "Noise that is not the input's": (
        "One less the coherence of output and input noise (of the slice and its neighbours) over patches in water, "
        "weighted with the output's power: a filter passes noise on, a generator makes its own."
    ),
    "Patterns": (
        "What all outputs of water share and their inputs do not: root of the covariance of the change over pairs of "
        "scans, less 3 standard errors. Steps of grey: largest |<exp(2πi f v)>| of soft tissue's values v, f from 0.25 "
        "to 0.75 per HU; 1 if all values lie on steps of 1.4 HU or more, whatever the step."
    ),
    "Sharpness of rods": (
        "Task transfer function of 28 mm rods: pixels over radius, edge spread, line spread, Fourier transform, "
        "of the mean of all scans, over that of the scan without noise. Only where the edge CNR reaches "
        "15. Richard et al. 2012, TG-233."
    ),
    "Borders in anatomy": (
        "Steepness left: sum(g' g) / sum(g²) over pixels of a border, g the truth's gradient, g' the output's; by what "
        "meets there. It is linear in the output, so noise only scatters it; nearer to 1 by 3 standard errors. "
        "Steps from slice to slice: the same along z, in the middle of rods that end inside the stack."
    ),
    "Hounsfield units": (
        "Mean of the inner 60 % of each rod, output minus input under the same noise; slope of output against "
        "input over all rods. Water: four regions near the border against the middle. Anatomy: the middle of lung, "
        "fat, muscle, organs, contrast medium and bone, each apart, output minus input, beyond 3 standard errors."
    ),
    "Between scans": (
        "Scans of one object differ in noise alone. Spread (largest less smallest) of the share of noise left, and of "
        "the mean that is added to flat parts."
    ),
    "Detectability": (
        "Channelised Hotelling observer, Laguerre-Gauss channels of 1.5 diameters, trained on one half of the "
        "images and tested on the other, 50 halvings; signals of up to 20 HU. Gallas and Barrett 2003. With few "
        "images d' comes out too small, before and after alike: compare, do not quote. Whiskers: 95 % interval."
    ),
    "Small lesions": (
        "Discs and Gaussians of about 3 to 10 mm and ±10, ±20, ±50 HU put into a made-up chest and abdomen before the "
        "noise. Contrast left: sum(d s) / sum(s²), d what a lesion adds to the output under the same noise, s to "
        "the input. Removed: less than half is left (20 HU and more)."
    ),
    "Calcifications": (
        "Discs of 0.5 to 3 mm and 600 to 1200 HU above their organ, contrast left as of lesions. Judged are those that "
        "the scan itself shows: root of sum((s / noise)²) of 5 and more, after Rose 1948."
    ),
    "Inventions": (
        "That stay: blobs of 3 mm and more in the mean of all outputs against the truth, beyond 5 standard errors and "
        "5 HU and in 80 % of the scans, in flat parts away from edges and signals. Whiskers: 95 % Poisson interval. "
        "In single scans: output minus truth, smoothed to 3, 6 and 10 mm, beyond 4.5 standard deviations of the "
        "input's, smoothed alike, and 5 HU. Those of the input are not the denoiser's."
    ),
    "Pictures": (
        "Before and after: one scan. Error that stays: mean of all outputs of an object minus its truth. Noise is in "
        "it, too: that of a single output over the root of the number of scans."
    ),
    "Full-dose input": ("Mean absolute change and PSNR (range 2000 HU) of output against input over both bodies."),
    "Field of view": (
        "One slice of the abdomen with air around it, and with its border cut off: largest change of a pixel in "
        "the middle half."
    ),
}

NOT_MEASURED = (
    "Patients. A phantom shows faults; it cannot show that there are none.",
    "Noise that neighbouring slices share: slices are simulated one by one.",
    "Metal, motion, scatter, beam hardening, iterative reconstruction.",
    "Other kernels, fields of view and slice thicknesses than the phantom's.",
    "Human observers. A model observer ranks; it does not diagnose.",
)
