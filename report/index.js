const dataOf = id => JSON.parse(document.getElementById(id)?.textContent || "[]");

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

// ---------------------------------------------------------------- tables

// DataTables, from the text of its module.
const {default: DataTable} = await import(URL.createObjectURL(new Blob([dataOf("tables-library")], {type: "text/javascript"})));

// A number at the start of a cell, as in "−1.20 [−2.00, 0.30]" or "1,024"; NaN for words.
const numberOf = said => {
  const found = /^[<+]? ?[-−]?[\d,]*\.?\d+(e[-+]\d+)?/.exec(said);
  return found ? Number(found[0].replace(/^[<+] ?|,/g, "").replace("−", "-")) : NaN;
};

// Numbers before words. A cell without a value stays last in both directions.
const inOrder = sign => (one, other) => {
  if (!one || !other) return !one - !other;
  const [a, b] = [numberOf(one), numberOf(other)];
  return sign * (isNaN(a) - isNaN(b) || a - b || one.localeCompare(other));
};
const text = cell => cell.textContent.trim();
DataTable.type("cell", {order: {asc: inOrder(1), desc: inOrder(-1)}});
DataTable.ext.order.text = (settings, column) =>
  new DataTable.Api(settings).column(column, {order: "index"}).nodes().toArray().map(text);

// Columns of words are flush left. On a narrow screen each cell is shown with the name of its column.
const align = (column, cells) => {
  const filled = cells.filter(text);
  const words = filled.filter(cell => isNaN(numberOf(text(cell)))).length * 2 > filled.length;
  for (const cell of [column, ...cells]) cell.classList.toggle("words", words);
  for (const cell of cells) cell.dataset.name = text(column);
};

document.querySelectorAll("table.sortable").forEach(table => new DataTable(table, {
  paging: false, searching: false, info: false, autoWidth: false, order: [],
  columnDefs: [{targets: "_all", type: "cell", orderDataType: "text", orderSequence: ["asc", "desc"]}],
  drawCallback() {
    this.api().columns().every(function() { align(this.header(), this.nodes().toArray()); });
  },
}));

// ---------------------------------------------------------------- the sweep as a chart

const sweepForm = document.querySelector("#sweep form");
if (sweepForm) {
  const points = dataOf("points-data");
  await Bokeh.embed.embed_item(dataOf("chart-data"), "chart"); // the chart of afmp/finished/page_chart.py
  const [chart] = Bokeh.documents, place = document.getElementById("chart");
  const digits = value => value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(3);

  const drawChart = (shown, quantity, label) => {
    const measured = shown.filter(point => point[quantity]).sort((one, other) => one.patches - other.patches);
    for (const entry of chart.get_model_by_name("legend").items) {
      const source = entry.renderers[0].data_source;
      const own = measured.filter(point => source.tags.includes(point.model));
      const [low, median, high] = [0, 1, 2].map(rank => own.map(point => point[quantity][rank]));
      const [model, size, patches] = ["model", "size", "patches"].map(name => own.map(point => point[name]));
      source.data = {model, size, patches, low, median, high};
      entry.visible = own.length > 0;
    }
    chart.get_model_by_name("quantity").axis_label = label;
    place.setAttribute("aria-label", `${label}, against patches per image`);
    place.hidden = !measured.length;
    document.getElementById("unmeasured").hidden = measured.length > 0;
  };

  const rowOf = point => {
    const row = document.createElement("tr");
    const time = point.time && `${digits(point.time[1])} [${digits(point.time[0])}, ${digits(point.time[2])}]`;
    const memory = point.memory && digits(point.memory[1]);
    const cells = [point.model, point.size, point.patches, point.batch, time, memory, point.status];
    for (const cell of cells) row.insertCell().textContent = typeof cell === "number" ? cell.toLocaleString("en") : cell || "";
    return row;
  };

  const showSweep = () => {
    const {quantity, ...setting} = Object.fromEntries(new FormData(sweepForm));
    const shown = points.filter(point => Object.keys(setting).every(key => point[key] === setting[key]));
    drawChart(shown, quantity, sweepForm.elements.quantity.selectedOptions[0].textContent);
    new DataTable.Api("#points").clear().rows.add(shown.map(rowOf)).draw();
    for (const row of document.querySelectorAll("table.chosen tbody tr"))
      row.hidden = !Object.keys(setting).every(key => row.dataset[key] === setting[key]);
  };
  sweepForm.addEventListener("change", showSweep);
  showSweep();
}
