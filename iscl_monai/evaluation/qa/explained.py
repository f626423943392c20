"""What each quantity means and where it comes from, in the words of the page."""

from __future__ import annotations

MEASURED = {
    "Scans": (
        "A simulated fan-beam scanner counts photons behind test objects (Poisson counts, electronic noise, "
        "filtered backprojection with a Hann kernel). Each object is scanned many times with independent noise at "
        "each dose."
    ),
    "Noise": (
        "Root mean square, over flat parts, of the standard deviation over realisations: the same as std(a - b) / "
        "√2 of pairs. Anatomy is alike in all and drops out. AAPM TG-233."
    ),
    "Noise power spectrum": (
        "dx dy / (Nx Ny) <|DFT|²> of 64 x 64 patches in water, after taking the mean over realisations away, "
        "averaged over directions. Its sum times du dv is σ², which is checked. ICRU Report 87."
    ),
    "Sharpness": (
        "Task transfer function of 28 mm rods: pixels over radius, edge spread, line spread, Fourier transform, "
        "of the mean of all realisations, over that of the scan without noise. Only where the edge CNR reaches "
        "15. Richard et al. 2012, TG-233."
    ),
    "Hounsfield units": (
        "Mean of the inner 60 % of each rod, output minus input under the same noise; slope of output against "
        "input over all rods. Water: four regions near the border against the middle. Lung and soft tissue in anatomy: "
        "output minus input in even parts, beyond 3 standard errors."
    ),
    "Detectability": (
        "Channelised Hotelling observer, Laguerre-Gauss channels of 1.5 diameters, trained on one half of the "
        "images and tested on the other, 50 halvings; signals of up to 20 HU. Gallas and Barrett 2003. With few "
        "images d' comes out too small, before and after alike: compare, do not quote."
    ),
    "Small lesions": (
        "Discs and Gaussians of 3 to 10 mm and ±10, ±20, ±50 HU put into a made-up chest and abdomen before the "
        "noise. Contrast left: sum(d s) / sum(s²), d what a lesion adds to the output under the same noise, s to "
        "the input. Removed: less than half is left (20 HU and more)."
    ),
    "Inventions": (
        "Blobs of 3 mm and more in the mean of all outputs against the truth, beyond 5 standard errors and 5 HU "
        "and in 80 % of the realisations, in flat parts away from edges and lesions. Whiskers: 95 % Poisson "
        "interval. Those of the input, where too few photons arrive, are not the denoiser's."
    ),
    "Full-dose input": ("Mean absolute change and PSNR (range 2000 HU) of output against input over both bodies."),
    "Field of view": (
        "One slice of the abdomen with air around it, and with its border cut off: largest change of a pixel in "
        "the middle half."
    ),
}

NOT_MEASURED = (
    "Patients. A phantom shows faults; it cannot show that there are none.",
    "Inventions in another place in each scan: they leave the mean over realisations.",
    "Learning by heart: the phantom is fixed and known.",
    "Resolution and noise along the patient's axis: slices are simulated one by one, so neighbours share no noise.",
    "Calcifications, metal, contrast medium, motion, scatter, beam hardening, iterative reconstruction.",
    "Other kernels, fields of view and slice thicknesses than the phantom's.",
    "Human observers. A model observer ranks; it does not diagnose.",
)
