// Charts that the hand moves: what is marked by dragged() and picked() in charts.mjs. Part of explorer.mjs.

/** The index of the place nearest to the pointer. */
function nearest(grip, event) {
  const drawing = grip.ownerSVGElement ?? grip;
  const box = drawing.getBoundingClientRect();
  const scale = (drawing.viewBox?.baseVal.width || box.width) / box.width;
  const at = { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
  const away = {
    x: (place) => Math.abs(place - at.x),
    y: (place) => Math.abs(place - at.y),
    xy: ([x, y]) => Math.hypot(x - at.x, y - at.y),
  }[grip.dataset.axis];
  const distance = (place, i, mirrored) => Math.min(away(place), mirrored ? away(mirrored[i]) : Infinity);
  const [places, mirrored] = [grip.dataset.places, grip.dataset.mirrored ?? "null"].map(JSON.parse);
  const distances = places.map((place, i) => distance(place, i, mirrored));
  return distances.indexOf(Math.min(...distances));
}

/** Follow the pointer from a grip of a chart, and set what is clicked; `begin` is called before. */
function hands(root, specs, move, begin) {
  const locked = () => root.classList.contains("ex-locked");
  const grips = (holder, name) => Array.from(holder.querySelectorAll(`[data-drag="${name}"]`));
  const held = new Map(); // pointers that are down: where the grip is found again after the chart is drawn anew
  function follow(event) {
    const { holder, name, which } = held.get(event.pointerId);
    const grip = grips(holder, name)[which];
    const { values } = specs.find((spec) => spec.name === name);
    move({ [name]: values[nearest(grip, event)] });
  }
  root.addEventListener("pointerdown", (event) => {
    const grip = event.target.closest("[data-drag]");
    if (!grip || event.button || locked()) return;
    begin();
    const [holder, name] = [grip.closest(".ex-holder"), grip.dataset.drag];
    held.set(event.pointerId, { holder, name, which: grips(holder, name).indexOf(grip) });
    root.setPointerCapture(event.pointerId);
    if (event.pointerType !== "touch") follow(event); // a finger may want to scroll
  });
  root.addEventListener("pointermove", (event) => held.has(event.pointerId) && follow(event));
  root.addEventListener("pointerup", (event) => {
    if (held.has(event.pointerId)) follow(event);
    held.delete(event.pointerId);
  });
  root.addEventListener("pointercancel", (event) => held.delete(event.pointerId));
  root.addEventListener("click", (event) => {
    const picked = event.target.closest("[data-pick]");
    if (!picked || locked()) return;
    begin();
    move({ [picked.dataset.pick]: JSON.parse(picked.dataset.value) });
  });
}
