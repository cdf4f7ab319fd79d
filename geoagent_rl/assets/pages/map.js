// Maps that zoom and move: by buttons, keys, dragging, two fingers, and the wheel (with ctrl, or on a map that is in use).
// Without scripts a map shows the whole world with all that is on it.

const LEAST = 12; // map units across at the closest: about 5 degrees
const KEYS = { "+": [0.6], "=": [0.6], "-": [1 / 0.6], ArrowLeft: [1, -0.2, 0], ArrowRight: [1, 0.2, 0], ArrowUp: [1, 0, -0.2], ArrowDown: [1, 0, 0.2] };

export function movable(figure) {
  const svg = figure.querySelector("svg"), density = figure.querySelector(".density"), errors = figure.querySelector(".errors");
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  let x = 0, y = 0, wide = width;

  function show() {
    wide = Math.min(Math.max(wide, LEAST), width);
    x = Math.min(Math.max(x, 0), width - wide);
    y = Math.min(Math.max(y, 0), height * (1 - wide / width));
    svg.setAttribute("viewBox", `${x} ${y} ${wide} ${(wide * height) / width}`);
    svg.style.setProperty("--zoom", wide / width);
    figure.classList.toggle("zoomed", wide < width);
  }

  // px, py: what stays where it is, as shares of the map that is seen.
  function zoom(by, px = 0.5, py = 0.5) {
    const before = wide;
    wide = Math.min(Math.max(wide * by, LEAST), width);
    x += (before - wide) * px;
    y += ((before - wide) * py * height) / width;
    show();
  }

  function move(dx, dy) {
    x += dx * wide;
    y += (dy * wide * height) / width;
    show();
  }

  function whole() {
    wide = width;
    show();
  }

  function fit() {
    const marks = [...svg.querySelectorAll("circle")].map((c) => [Number(c.getAttribute("cx")), Number(c.getAttribute("cy"))]);
    const low = [0, 1].map((axis) => Math.min(...marks.map((m) => m[axis]))), high = [0, 1].map((axis) => Math.max(...marks.map((m) => m[axis])));
    wide = Math.max((high[0] - low[0]) * 1.3, (((high[1] - low[1]) * width) / height) * 1.3, 30);
    x = (low[0] + high[0] - wide) / 2;
    y = (low[1] + high[1] - (wide * height) / width) / 2;
    show();
  }

  function swap(event) {
    const dense = density.hasAttribute("hidden");
    density.toggleAttribute("hidden", !dense);
    errors.toggleAttribute("hidden", dense);
    event.target.setAttribute("aria-pressed", String(dense));
  }

  const button = (name, label, click) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = name;
    made.setAttribute("aria-label", label);
    made.addEventListener("click", click);
    return made;
  };
  const tools = document.createElement("div");
  tools.className = "tools";
  tools.append(button("+", "zoom in", () => zoom(0.6)), button("−", "zoom out", () => zoom(1 / 0.6)), button("whole world", "whole world", whole));
  if (svg.querySelector("circle")) tools.append(button("fit", "zoom to what is marked", fit));
  if (svg.querySelector("circle") && density.childElementCount) tools.append(button("density", "density of the answers", swap));
  figure.append(tools);

  svg.setAttribute("tabindex", "0");
  svg.addEventListener("keydown", (event) => {
    const [by, dx, dy] = KEYS[event.key] ?? [];
    if (by === undefined || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    if (dx === undefined) zoom(by); else move(dx, dy);
  });
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !figure.contains(document.activeElement)) return; // the page scrolls
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }, { passive: false });
  const held = new Map(); // pointer -> where it was last
  svg.addEventListener("pointerdown", (event) => {
    svg.setPointerCapture(event.pointerId);
    held.set(event.pointerId, event);
  });
  svg.addEventListener("lostpointercapture", (event) => held.delete(event.pointerId));
  svg.addEventListener("touchmove", (event) => event.touches.length > 1 && event.preventDefault(), { passive: false }); // two fingers scroll no page
  svg.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    if (!before || (held.size === 1 && wide === width)) return;
    held.set(event.pointerId, event);
    const box = svg.getBoundingClientRect(), other = [...held.values()].find((one) => one.pointerId !== event.pointerId);
    const apart = (one) => Math.max(Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY), 1);
    const middle = (axis, from, size) => ((event[axis] + other[axis]) / 2 - from) / size;
    if (other) zoom(apart(before) / apart(event), middle("clientX", box.left, box.width), middle("clientY", box.top, box.height));
    move((before.clientX - event.clientX) / box.width / held.size, (before.clientY - event.clientY) / box.height / held.size);
  });
  figure.addEventListener("fit", () => (wide < width ? whole() : fit())); // a key of the page's own
}

for (const figure of document.querySelectorAll("figure.world")) movable(figure);
