// Slices to look through: one is shown at a time, all its pictures in one window, at one zoom and place.
for (const viewer of document.querySelectorAll('.viewer')) {
  const slices = [...viewer.querySelectorAll('.slice')], scroll = viewer.querySelector('.scroll');
  const still = matchMedia('(prefers-reduced-motion: reduce)');
  let timer = 0;

  const press = button => {
    for (const other of button.parentElement.children) other.setAttribute('aria-pressed', other === button);
  };
  const show = index => {
    slices.forEach((slice, place) => { slice.hidden = place !== index; });
    if (scroll) { scroll.value = index; scroll.setAttribute('aria-valuetext', slices[index].dataset.name); }
  };
  const swap = () => viewer.classList.toggle('now-after');
  const compare = mode => {
    clearInterval(timer);
    if (mode === 'blink' && viewer.dataset.mode === 'blink') { swap(); return; }  // by hand from now on
    viewer.dataset.mode = mode;
    if (mode === 'blink' && !still.matches) timer = setInterval(swap, 600);
  };
  const chooseWindow = ({window, difference, imageCaption, differenceCaption, noiseCaption}) => {
    viewer.style.setProperty('--hu', `url(#hu-${window})`);
    for (const kind of ['difference', 'noise']) viewer.style.setProperty(`--${kind}`, `url(#${kind}-${difference})`);
    const captions = {hu: imageCaption, difference: differenceCaption, noise: noiseCaption};
    for (const [kind, words] of Object.entries(captions)) {
      for (const caption of viewer.querySelectorAll(`.${kind} .window`)) caption.textContent = words;
    }
  };
  const chooseBeside = choice => {
    for (const figure of viewer.querySelectorAll('[data-choice]')) figure.hidden = figure.dataset.choice !== choice;
  };
  let zoom = 1, x = 0, y = 0;  // x and y in percent of the picture
  const move = (right, down) => {
    const most = 50 * (1 - 1 / zoom), within = value => Math.max(-most, Math.min(most, value));
    x = within(x + right); y = within(y + down);
    viewer.style.setProperty('--x', `${x}%`); viewer.style.setProperty('--y', `${y}%`);
  };
  const magnify = times => {
    zoom = times;
    viewer.toggleAttribute('data-zoom', zoom > 1);
    viewer.style.setProperty('--zoom', zoom);
    move(0, 0);
  };

  viewer.querySelector('.tools').onclick = event => {
    const button = event.target.closest('button');
    if (!button) return;
    press(button);
    if (button.dataset.window) chooseWindow(button.dataset);
    if (button.dataset.mode) compare(button.dataset.mode);
    if (button.dataset.beside) chooseBeside(button.dataset.beside);
    if (button.dataset.zoom) magnify(Number(button.dataset.zoom));
  };
  if (scroll) scroll.oninput = () => show(Number(scroll.value));
  const divide = viewer.querySelector('.divide');
  if (divide) divide.oninput = () => viewer.style.setProperty('--wipe', `${divide.value}%`);

  let from = null;
  viewer.onpointerdown = event => {
    if (zoom === 1 || !event.target.closest('.frame')) return;
    from = event; event.preventDefault(); event.target.setPointerCapture(event.pointerId);
  };
  viewer.onpointermove = event => {
    if (!from) return;
    const width = event.target.closest('.frame')?.clientWidth || 1;
    move(100 * (event.clientX - from.clientX) / width / zoom, 100 * (event.clientY - from.clientY) / width / zoom);
    from = event;
  };
  viewer.onpointerup = viewer.onpointercancel = () => { from = null; };
  const steps = {ArrowLeft: [5, 0], ArrowRight: [-5, 0], ArrowUp: [0, 5], ArrowDown: [0, -5]};
  viewer.onkeydown = event => {
    if (zoom === 1 || !steps[event.key] || event.target.matches('input')) return;
    move(...steps[event.key]); event.preventDefault();
  };

  viewer.querySelector('.tools').hidden = false;
  const first = viewer.querySelector('[data-beside]');
  if (first) chooseBeside(first.dataset.beside);
  show(Number(viewer.dataset.start));
}
