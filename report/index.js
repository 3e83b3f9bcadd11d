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

const points = dataOf("points-data");
const digits = value => value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(3);

// chart: the document of Bokeh with the chart of afmp/finished/page_chart.py
const drawChart = (chart, shown, quantity, label) => {
  const measured = shown.filter(point => point[quantity]).sort((one, other) => one.patches - other.patches);
  for (const entry of chart.get_model_by_name("legend").items) {
    const source = entry.renderers[0].data_source;
    const own = measured.filter(point => point.model === source.name);
    const [low, median, high] = [0, 1, 2].map(place => own.map(point => point[quantity][place]));
    const [model, size, patches] = ["model", "size", "patches"].map(name => own.map(point => point[name]));
    source.data = {model, size, patches, low, median, high};
    entry.visible = own.length > 0;
  }
  chart.get_model_by_name("quantity").axis_label = label;
  const place = document.getElementById("chart");
  place.setAttribute("aria-label", `${label}, against patches per image`);
  place.hidden = !measured.length;
  document.getElementById("unmeasured").hidden = measured.length > 0;
};

const sweepForm = document.querySelector("#sweep form");
if (sweepForm) {
  const table = document.getElementById("points");
  const choice = () => Object.fromEntries(new FormData(sweepForm));
  let chart;
  const showSweep = () => {
    const {quantity, ...setting} = choice();
    const shown = points.filter(point => Object.keys(setting).every(key => point[key] === setting[key]));
    const label = sweepForm.elements.quantity.selectedOptions[0].textContent;
    if (chart) drawChart(chart, shown, quantity, label);
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
  showSweep();
  Bokeh.embed.embed_item(dataOf("chart-data"), "chart").then(() => {
    chart = Bokeh.documents[0];
    showSweep();
  });
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
