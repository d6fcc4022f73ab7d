// A report as the worker of any export leaves it: its verdict, then sections of sentences, figures, tables, charts and
// pairs of answers. Everything is set as text.
const REPORT_SHADES = ["--curve-main", "--curve-second", "--curve-third", "--curve-fourth"];
const ROWS_MAX = 12; // a longer table is folded
const SHORT = 20, LONG = 72; // characters of a figure and of a cell; longer ones are broken into lines
const UNITS = { kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 };

// the number that a cell shows, in bytes where it is a size; null where it shows none
function numberIn(cell) {
  const [, digits, unit] = cell.match(/^\s*([-+]?[\d,.]*\d(?:e[-+]?\d+)?)\s*([kMGT]B\b)?/i) ?? [];
  return digits === undefined ? null : Number(digits.replaceAll(",", "")) * (UNITS[unit] ?? 1);
}

// `code` and **bold**, which is all that reports use within a line
function spoken(line) {
  return line.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/).map((part) => {
    if (/^`.+`$/.test(part)) return make("code", "", part.slice(1, -1));
    return /^\*\*.+\*\*$/.test(part) ? make("b", "", part.slice(2, -2)) : part;
  });
}

function fenced(text) {
  const copy = button(say("Copy", "复制"), async () => {
    await navigator.clipboard.writeText(text);
    copy.textContent = say("Copied", "已复制");
  });
  return make("div", "report-code", make("pre", "", text), copy);
}

// sentences, and between ``` what is to be copied
function prose(text) {
  return text.split(/```[a-z]*\n([\s\S]*?)```/).map((part, index) => {
    if (index % 2) return fenced(part.trimEnd());
    return part.trim() ? make("p", "report-text", ...spoken(part.trim())) : "";
  });
}

function figuresOf(figures) {
  const rows = figures.map(([label, value]) => make("tr", "", make("th", "", label), make("td", value.length > SHORT ? "long" : "", value)));
  return make("table", "figures-table", make("tbody", "", ...rows));
}

function grid({ columns, rows }) {
  const head = make("tr", "", ...columns.map((text) => make("th", "", text)));
  const body = rows.map((row) => make("tr", "", ...row.map((text) => make("td", text.length > LONG ? "long" : "", text))));
  const table = make("table", "report-table", make("thead", "", head), make("tbody", "", ...body));
  const scroll = make("div", "report-scroll", table);
  if (rows.length <= ROWS_MAX) return scroll;
  return make("details", "report-fold", make("summary", "", say(`All ${rows.length} rows`, `全部 ${rows.length} 行`)), scroll);
}

// one column as bars, a bar a row, each with what its cell says
async function drawBars(place, table, name) {
  const library = await plotly();
  if (!place.isConnected) return;
  const column = table.columns.indexOf(name), few = table.rows.length <= ROWS_MAX;
  const bars = {
    type: "bar", x: table.rows.map((row) => row[0]), y: table.rows.map((row) => numberIn(row[column])), customdata: table.rows.map((row) => row[column]),
    hovertemplate: "%{x}: %{customdata}<extra></extra>", cliponaxis: false,
    marker: { color: few ? table.rows.map((_, index) => color(REPORT_SHADES[index % REPORT_SHADES.length])) : color("--curve-main") },
  };
  if (few) Object.assign(bars, { text: bars.customdata, textposition: "outside" });
  const plain = plainLayout(name, "", few ? 220 : 260);
  const horizontal = { ...plain.xaxis, type: "category", showticklabels: few, showgrid: false, title: {} };
  const vertical = { ...plain.yaxis, rangemode: "tozero", showticklabels: !few, showgrid: !few };
  library.react(place, [bars], { ...plain, xaxis: horizontal, yaxis: vertical, showlegend: false, bargap: 0.35 }, { displayModeBar: false, responsive: true });
}

function charts(table) {
  const places = table.chart.map((name) => [make("div", "report-plot"), name]);
  requestAnimationFrame(() => places.forEach(([place, name]) => drawBars(place, table, name)));
  return make("div", "plots report-plots", ...places.map(([place]) => place));
}

function answerOf([wanted, got]) {
  return (answer) => {
    const turn = (kind, who, text) => make("div", `turn ${kind}`, make("b", "", who), text);
    const asked = turn("user", say("prompt", "提问"), answer.prompt);
    if (answer.wanted === answer.got) return make("div", "report-answer", asked, turn("assistant", say(`${wanted} and ${got}, the same`, `${wanted} 与 ${got}（相同）`), answer.got));
    return make("div", "report-answer", asked, make("div", "pair", turn("assistant", wanted, answer.wanted), turn("rejected", got, answer.got)));
  };
}

function sectionOf(section) {
  const parts = [make("h4", "", section.title)];
  if (section.text) parts.push(...prose(section.text));
  if (section.figures.length) parts.push(figuresOf(section.figures));
  if (section.table?.chart.length && section.table.rows.length > 1) parts.push(charts(section.table));
  if (section.table) parts.push(grid(section.table));
  if (section.answers.length) parts.push(make("div", "report-answers", ...section.answers.map(answerOf(section.labels))));
  return make("section", "report-section", ...parts);
}

function reportOf(report) {
  const verdict = card(report.passed ? "good" : "bad", ...spoken(report.verdict));
  return make("div", "report", make("h3", "", report.title), verdict, ...report.sections.map(sectionOf));
}
