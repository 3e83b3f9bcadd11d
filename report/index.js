"use strict";

// A number at the start of a cell, as in "−1.20 [−2.00, 0.30]" or "1,024"; NaN for words.
const numberOf = text => {
  const found = /^[<+]? ?[-−]?[\d,]*\.?\d+(e[-+]\d+)?/.exec(text.trim());
  return found ? Number(found[0].replace(/^[<+] ?|,/g, "").replace("−", "-")) : NaN;
};

const compare = (one, other) => {
  const [a, b] = [numberOf(one), numberOf(other)];
  if (!isNaN(a) && !isNaN(b)) return a - b;
  if (isNaN(a) && isNaN(b)) return one.localeCompare(other);
  return isNaN(a) ? 1 : -1;
};

// Columns of words are flush left. On a narrow screen each cell is shown with the name of its column.
const align = table => {
  const rows = [...table.tBodies[0].rows];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const filled = rows.map(row => row.cells[column]).filter(cell => cell.textContent.trim());
    const words = filled.filter(cell => isNaN(numberOf(cell.textContent))).length * 2 > filled.length;
    [head, ...rows.map(row => row.cells[column])].forEach(cell => cell.classList.toggle("words", words));
    rows.forEach(row => row.cells[column].dataset.name = head.textContent.trim());
  });
};

const sortBy = (table, column) => {
  const heads = [...table.tHead.rows[0].cells];
  const falling = heads[column].getAttribute("aria-sort") === "ascending";
  heads.forEach(head => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", falling ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows];
  const text = row => row.cells[column].textContent.trim();
  // A cell without a value stays last in both directions.
  rows.sort((one, other) => {
    if (!text(one) || !text(other)) return !text(one) - !text(other);
    return (falling ? -1 : 1) * compare(text(one), text(other));
  });
  table.tBodies[0].append(...rows);
};

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, column));
    head.append(button);
  });
  align(table);
}

const dataOf = id => JSON.parse(document.getElementById(id)?.textContent || "[]");

// ---------------------------------------------------------------- the sweep as a chart

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"];
const points = dataOf("points-data");
const names = [...new Set(points.map(point => point.model))];
const digits = value => value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(3);
const short = value => Number(value.toPrecision(3)).toLocaleString("en", {maximumSignificantDigits: 3});

const element = (name, attributes, text) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
};

// 1, 2 and 5 times each power of ten from low to high; only the powers where these are many.
const ticks = (low, high) => {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const step of [1, 2, 5]) found.push(step * 10 ** power);
  const inside = found.filter(value => value >= low * 0.999 && value <= high * 1.001);
  return inside.length > 9 ? inside.filter(value => Math.log10(value) % 1 === 0) : inside;
};

const drawChart = (shown, quantity, label) => {
  const place = document.getElementById("chart");
  const measured = shown.filter(point => point[quantity]);
  const legend = document.getElementById("legend");
  place.replaceChildren();
  legend.replaceChildren();
  if (!measured.length) {
    place.textContent = "Nothing was measured with this choice.";
    return;
  }
  const width = Math.max(300, place.clientWidth), height = Math.min(460, Math.max(300, width / 2));
  const [left, right, top, bottom] = [62, 30, 14, 52];
  const values = measured.flatMap(point => point[quantity]), sizes = measured.map(point => point.patches);
  const scale = (low, high, from, to) => value =>
    from + (to - from) * (Math.log(value) - Math.log(low)) / (Math.log(high) - Math.log(low));
  const [lowY, highY] = [Math.min(...values) / 1.3, Math.max(...values) * 1.3];
  const [lowX, highX] = [Math.min(...sizes) / 1.1, Math.max(...sizes) * 1.1];
  const x = scale(lowX, highX, left, width - right), y = scale(lowY, highY, height - bottom, top);
  const svg = element("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label});
  for (const value of ticks(lowY, highY)) {
    svg.append(element("line", {x1: left, x2: width - right, y1: y(value), y2: y(value), stroke: "#e3e6ea"}));
    svg.append(element("text", {x: left - 8, y: y(value) + 4, "text-anchor": "end"}, short(value)));
  }
  let last = -Infinity;
  for (const patches of [...new Set(sizes)].sort((a, b) => a - b)) {
    svg.append(element("line", {x1: x(patches), x2: x(patches), y1: height - bottom, y2: height - bottom + 5, stroke: "#555"}));
    const text = patches.toLocaleString("en"), half = 4 * text.length + 4;
    if (x(patches) - half < last) continue; // no room for its label
    last = x(patches) + half;
    svg.append(element("text", {x: x(patches), y: height - bottom + 19, "text-anchor": "middle"}, text));
  }
  svg.append(element("line", {x1: left, x2: width - right, y1: height - bottom, y2: height - bottom, stroke: "#555"}));
  svg.append(element("text", {x: (left + width - right) / 2, y: height - 10, "text-anchor": "middle"}, "patches per image"));
  const middle = (top + height - bottom) / 2;
  svg.append(element("text", {x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})`}, label));
  names.forEach((name, number) => {
    const own = measured.filter(point => point.model === name).sort((a, b) => a.patches - b.patches);
    if (!own.length) return;
    const colour = COLOURS[number % COLOURS.length];
    const line = own.map(point => `${x(point.patches)},${y(point[quantity][1])}`).join(" ");
    svg.append(element("polyline", {points: line, fill: "none", stroke: colour, "stroke-width": 2}));
    for (const point of own) {
      const [low, median, high] = point[quantity], at = x(point.patches);
      svg.append(element("line", {x1: at, x2: at, y1: y(low), y2: y(high), stroke: colour, "stroke-width": 2}));
      const mark = element("circle", {cx: at, cy: y(median), r: 4, fill: colour});
      mark.append(element("title", {}, `${name}, ${point.size} px: ${digits(median)}`));
      svg.append(mark);
    }
    const entry = document.createElement("span"), swatch = document.createElement("i");
    swatch.style.background = colour;
    entry.append(swatch, name);
    legend.append(entry);
  });
  place.append(svg);
};

const sweepForm = document.querySelector("#sweep form");
if (sweepForm) {
  const table = document.getElementById("points");
  const choice = () => Object.fromEntries(new FormData(sweepForm));
  const showSweep = () => {
    const {quantity, ...setting} = choice();
    const shown = points.filter(point => Object.keys(setting).every(key => point[key] === setting[key]));
    const label = sweepForm.elements.quantity.selectedOptions[0].textContent;
    drawChart(shown, quantity, label);
    table.tBodies[0].replaceChildren(...shown.map(point => {
      const row = document.createElement("tr");
      const time = point.time && `${digits(point.time[1])} [${digits(point.time[0])}, ${digits(point.time[2])}]`;
      const memory = point.memory && digits(point.memory[1]);
      const cells = [point.model, point.size, point.patches, point.batch, time, memory, point.status];
      for (const cell of cells) row.insertCell().textContent = typeof cell === "number" ? cell.toLocaleString("en") : cell || "";
      return row;
    }));
    align(table);
    [...table.tHead.rows[0].cells].forEach(head => head.removeAttribute("aria-sort"));
    for (const row of document.querySelectorAll("table.chosen tbody tr"))
      row.hidden = !Object.keys(setting).every(key => row.dataset[key] === setting[key]);
  };
  sweepForm.addEventListener("change", showSweep);
  window.addEventListener("resize", showSweep);
  showSweep();
}

// ---------------------------------------------------------------- diagnostics by epoch

const runs = dataOf("diagnostics-data");
const epochForm = document.querySelector("#diagnostics form");
if (epochForm) {
  const {run, epoch, shown} = epochForm.elements;
  const showEpoch = () => {
    const {name, pictures} = runs[run.value], picture = pictures[epoch.value];
    shown.value = `${picture.epoch} (${Number(epoch.value) + 1} of ${pictures.length})`;
    const image = document.getElementById("diagnostics-picture");
    image.src = picture.image;
    image.alt = `Diagnostics of ${name} at epoch ${picture.epoch}`;
    document.getElementById("diagnostics-caption").textContent = picture.caption;
  };
  // The last epoch first.
  const showRun = () => {
    const last = runs[run.value].pictures.length - 1;
    epoch.max = last;
    epoch.value = last;
    epoch.disabled = !last;
    showEpoch();
  };
  run.addEventListener("change", showRun);
  epoch.addEventListener("input", showEpoch);
  showRun();
}
