// The pictures of a series: slice, window and layout without loading the page again.
"use strict";

for (const viewer of document.querySelectorAll("form.viewer")) {
  const slice = viewer.elements.slice;
  const output = viewer.querySelector("output");
  const divider = viewer.querySelector(".divider");
  const pair = viewer.querySelector(".pair");
  const images = [...viewer.querySelectorAll("img[data-what]")];
  let wanted = 0;

  const address = (what, number) =>
    `${viewer.dataset.base}${number}/${what}.png?window=${viewer.elements.window.value}`;

  async function show() {
    const mine = ++wanted;
    output.textContent = `${slice.value} / ${slice.max}`;
    const loaded = images.map((image) => {
      const next = new Image();
      next.src = address(image.dataset.what, slice.value);
      return next;
    });
    // All three change at once, and only if nobody has gone on meanwhile.
    await Promise.allSettled(loaded.map((next) => next.decode()));
    if (mine !== wanted) return;
    images.forEach((image, index) => { image.src = loaded[index].src; });
    viewer.dataset.shown = slice.value;
    remember();
    ahead();
  }

  function remember() {
    const url = new URL(location);
    url.searchParams.set("slice", slice.value);
    url.searchParams.set("window", viewer.elements.window.value);
    history.replaceState(null, "", url);
  }

  function ahead() {
    for (const number of [Number(slice.value) + 1, Number(slice.value) - 1]) {
      if (number < 1 || number > Number(slice.max)) continue;
      for (const image of images) new Image().src = address(image.dataset.what, number);
    }
  }

  function step(by) {
    const before = slice.value;
    slice.value = Number(slice.value) + by;
    if (slice.value !== before) show();
  }

  function divide() {
    pair.style.setProperty("--shown", `${divider.value}%`);
  }

  slice.addEventListener("input", show);
  divider.addEventListener("input", divide);
  viewer.addEventListener("submit", (event) => event.preventDefault());
  viewer.addEventListener("change", (event) => {
    if (event.target.name === "layout") viewer.dataset.layout = event.target.value;
    if (event.target.name === "window") show();
  });
  viewer.querySelector(".pictures").addEventListener("keydown", (event) => {
    if (event.target === divider && event.key.startsWith("Arrow")) return; // its own keys
    const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });
  viewer.querySelector(".pictures").addEventListener("wheel", (event) => {
    if (event.ctrlKey || !viewer.contains(document.activeElement)) return; // zoom, or a page that is scrolled
    event.preventDefault();
    step(Math.sign(event.deltaY));
  }, { passive: false });
  viewer.querySelector(".pictures").addEventListener("click", (event) => {
    if (event.target !== divider) event.currentTarget.focus({ preventScroll: true });
  });
  divide();
  viewer.classList.add("live");
  viewer.dataset.shown = slice.value;
}
