// Token lengths of the chosen dataset. The cutoff line moves here: what it would cut and drop follows from the
// histograms, without the server.
const BINS = 60;
let shownFor = null, stamp = "", found = null, line = 0, rowsAStep = null, packing = null;

const total = (pairs) => pairs.reduce((sum, [, rows]) => sum + rows, 0);
const above = (pairs, limit) => total(pairs.filter(([value]) => value > limit));
const percent = (share) => `${(share * 100).toLocaleString([], { maximumFractionDigits: 1 })} %`;
const about = () => (found.rows_read < found.rows ? "≈ " : "");

// What a cutoff at `limit` tokens would do to the measured rows.
function consequence(limit) {
  const all = total(found.lengths);
  const cut = above(found.lengths, limit);
  const dropped = above(found.first_trained, limit);
  // a dropped row is longer than the limit, so it counts `limit` in the sum and nothing in truth
  const kept = found.lengths.reduce((sum, [length, rows]) => sum + Math.min(length, limit) * rows, 0) - dropped * limit;
  const tokens = found.lengths.reduce((sum, [length, rows]) => sum + length * rows, 0);
  return { all, cut, dropped, share: tokens ? kept / tokens : 0 };
}

function steps() {
  const items = (packing ? found.packed_sequences : found.kept_rows) * found.scale;
  return items ? Math.max(1, Math.ceil(items / Math.max(1, rowsAStep))) : 0;
}

function tile(label, value, note) {
  return make("div", "tile", make("small", "", label), make("b", "", value), make("small", "", note ?? ""));
}

function tiles() {
  const at = say(`at a cutoff of ${count(found.cutoff_len)}`, `截断长度 ${count(found.cutoff_len)}`);
  const sampled = found.rows_read < found.rows;
  const measured = sampled ? say(`even sample of ${count(found.rows)}`, `均匀抽样，共 ${count(found.rows)}`) : say("all", "全部");
  return make("div", "tiles",
    tile(say("Rows measured", "统计行数"), count(found.rows_measured), measured),
    tile(say("Tokens a row", "每行 token"), `${count(found.p50)} · ${count(found.p95)} · ${count(found.p100)}`, say("median · 95 % · longest", "中位 · 95 % · 最长")),
    tile(say("Trained tokens", "参与训练的 token"), percent(found.trained_share), at),
    tile(say("Packing efficiency", "打包效率"), percent(found.packing_efficiency), at),
    tile(say("Tokens an epoch", "每轮 token"), about() + count(found.tokens_per_epoch), at),
    stepsTile());
}

function stepsTile() {
  const node = tile(say("Steps an epoch", "每轮步数"), "");
  node.id = "data-steps";
  const field = make("input", "short");
  field.type = "number";
  field.min = 1;
  field.value = rowsAStep;
  field.setAttribute("aria-label", say("Rows a step", "每步行数"));
  const box = make("input");
  box.type = "checkbox";
  box.checked = packing;
  const show = () => { node.querySelector("b").textContent = about() + count(steps()); };
  field.addEventListener("input", () => { rowsAStep = +field.value || 1; show(); });
  box.addEventListener("change", () => { packing = box.checked; show(); });
  node.lastChild.replaceChildren(make("label", "", say("rows a step", "每步行数"), " ", field), make("label", "", box, say("packed", "打包")));
  show();
  return node;
}

// The control under the histogram: a slider, a number, what follows.
function cutoffLine() {
  const node = make("div", "cutoff-line");
  const slider = make("input"), field = make("input", "short"), told = make("p", "");
  slider.type = "range";
  slider.min = 8;
  slider.max = lengthsTop();
  field.type = "number";
  field.min = 8;
  const name = say("Cutoff length", "截断长度");
  slider.setAttribute("aria-label", name);
  field.setAttribute("aria-label", name);
  const use = button(say("Use this cutoff", "采用此截断长度"), () => trigger("apply", { cutoff: line }));
  function move(value) {
    line = Math.max(8, Math.round(+value || 8));
    slider.value = line;
    if (document.activeElement !== field) field.value = line;
    told.textContent = sentence();
    use.disabled = line === found.cutoff_len;
    drawLine();
  }
  slider.addEventListener("input", () => move(slider.value));
  field.addEventListener("input", () => move(field.value));
  node.append(make("label", "", name, " ", field), slider, use, told);
  node.move = move;
  return node;
}

function sentence() {
  const { all, cut, dropped, share } = consequence(line);
  const kept = percent(share);
  return say(
    `At ${count(line)} tokens, ${count(cut)} of ${count(all)} rows are cut (${percent(all ? cut / all : 0)}), ` +
      `${count(dropped)} of them are dropped because nothing trained is left, and ${kept} of the tokens are kept.`,
    `截断为 ${count(line)} 时，${count(all)} 行中有 ${count(cut)} 行被截断（${percent(all ? cut / all : 0)}），` +
      `其中 ${count(dropped)} 行因没有可训练内容而被丢弃，保留 ${kept} 的 token。`);
}

function drawLine() {
  const plot = box.querySelector("[data-plot=lengths]");
  if (plot?.data) window.Plotly.relayout(plot, { shapes: [lineShape()] });
}

function lineShape() {
  return { type: "line", x0: line, x1: line, yref: "paper", y0: 0, y1: 1, line: { color: color("--curve-second"), width: 2, dash: "dash" } };
}

// Bars of equal width; a long tail beyond three times the 95th percentile is reached by zooming out.
function bars(pairs, width, name, paint) {
  const sums = new Map();
  for (const [value, rows] of pairs) {
    const bin = Math.floor((value - 1) / width);
    sums.set(bin, (sums.get(bin) ?? 0) + rows);
  }
  const bins = [...sums.keys()].sort((a, b) => a - b);
  return {
    type: "bar", name, x: bins.map((bin) => (bin + 0.5) * width + 0.5), y: bins.map((bin) => sums.get(bin)), width,
    marker: { color: paint, line: { width: 0 } },
    text: bins.map((bin) => (width === 1 ? `${bin + 1}` : `${count(bin * width + 1)}–${count((bin + 1) * width)}`)), textposition: "none",
    hovertemplate: `%{text}: %{y:,} ${say("rows", "行")}<extra></extra>`,
  };
}

function reach(pairs) {
  const all = total(pairs);
  let seen = 0, p95 = 1;
  for (const [value, rows] of pairs) {
    seen += rows;
    if (seen <= all * 0.95) p95 = value;
  }
  return Math.max(8, Math.min(pairs.at(-1)?.[0] ?? 8, 3 * p95));
}

// The right end of the first chart, where its slider ends too; the line is seen unless it is far out.
function lengthsTop() {
  const end = reach(found.lengths);
  return Math.max(end, Math.min(found.cutoff_len, 2 * end));
}

function lengthsPlot() {
  const top = lengthsTop();
  const layout = plainLayout(say("Tokens a row", "每行 token 数"), say("tokens", "token 数"), 260);
  layout.xaxis.range = [0, top * 1.02];
  layout.shapes = [lineShape()];
  layout.showlegend = false;
  return [[bars(found.lengths, Math.ceil(top / BINS), "", color("--curve-main"))], layout];
}

function sidesPlot() {
  const top = Math.max(reach(found.prompt_lengths), reach(found.response_lengths));
  const width = Math.ceil(top / BINS);
  const layout = plainLayout(say("Prompt and response", "提示与回答"), say("tokens", "token 数"), 230);
  layout.xaxis.range = [0, top * 1.02];
  layout.barmode = "overlay";
  const sides = [
    { ...bars(found.prompt_lengths, width, say("prompt", "提示"), color("--curve-second")), opacity: 0.65 },
    { ...bars(found.response_lengths, width, say("response", "回答"), color("--curve-main")), opacity: 0.65 },
  ];
  return [sides, layout];
}

function turnsPlot() {
  const layout = plainLayout(say("Turns", "对话轮数"), say("messages in a row", "每行消息数"), 230);
  layout.showlegend = false;
  if (found.turns.at(-1)[0] < 10) layout.xaxis.dtick = 1;
  return [[{ ...bars(found.turns, 1, "", color("--curve-main")), width: 0.7 }], layout];
}

function languagesPlot() {
  const all = total(found.languages), most = found.languages.slice(0, 10).reverse();
  const layout = plainLayout(say("Languages", "语言"), say("share of the rows read", "占已读行的比例"), 230);
  layout.xaxis.tickformat = ".0%";
  layout.yaxis.type = "category";
  layout.showlegend = false;
  const y = most.map(([code]) => language(code)), x = most.map(([, rows]) => rows / all);
  const trace = { type: "bar", orientation: "h", x, y, marker: { color: color("--curve-main") }, hovertemplate: "%{y}: %{x:.1%}<extra></extra>" };
  return [[trace], layout];
}

function language(code) {
  if (code === "und") return say("unknown", "未知");
  try {
    return new Intl.DisplayNames([navigator.language], { type: "language" }).of(code) ?? code;
  } catch (error) {
    return code; // no language tag, such as "unknown"
  }
}

const PLOTS = { lengths: lengthsPlot, sides: sidesPlot, turns: turnsPlot, languages: languagesPlot };

async function drawPlots() {
  const library = await plotly();
  for (const plot of box.querySelectorAll("[data-plot]")) {
    await library.react(plot, ...PLOTS[plot.dataset.plot](), { responsive: true, displayModeBar: false });
  }
}

function plot(name) {
  const node = make("div", "");
  node.dataset.plot = name;
  return node;
}

async function drawFound() {
  line = found.cutoff_len;
  rowsAStep ??= found.batch_rows;
  packing ??= found.packing;
  const control = cutoffLine();
  const names = ["sides", "turns", ...(found.languages.length ? ["languages"] : [])];
  box.replaceChildren(tiles(), ...found.findings.map(findingCard), plot("lengths"), control, make("div", "plots", ...names.map(plot)));
  control.move(line);
  await drawPlots();
  box.querySelector("[data-plot=lengths]").on("plotly_click", ({ points }) => control.move(points[0].x));
}

async function measure() {
  for (const act of box.querySelectorAll("button")) act.disabled = true;
  const answer = await server.measure(props.value);
  stamp = "";
  if (answer.error) return box.replaceChildren(card("bad", answer.error));
  showWork();
  now();
}

function drawNothing(busy) {
  const act = button(say("Measure", "开始统计"), measure, "primary");
  act.id = "data-measure";
  act.disabled = busy;
  const told = busy ? say("The tokens are being counted …", "正在统计 token…")
    : say("Not measured with these settings yet.", "尚未按这些设置统计。");
  box.replaceChildren(hint(told), make("div", "panel-actions", act));
}

async function ask() {
  const subject = props.value;
  if (subject !== shownFor) { stamp = ""; shownFor = subject; }
  if (!subject) { box.replaceChildren(); return false; }
  const answer = await server.look(subject, stamp);
  if (answer && subject === props.value) {
    stamp = answer.stamp ?? "";
    element.dataset.busy = Boolean(answer.busy);
    const same = found && JSON.stringify(found) === JSON.stringify(answer.statistics);
    found = answer.statistics ?? null;
    if (same && box.querySelector("[data-plot]")) return answer.busy; // a line that was moved stays
    if (answer.error) box.replaceChildren(card("bad", answer.error));
    else if (found?.rows_measured) await drawFound();
    else if (found) box.replaceChildren(hint(say("No row of this dataset can be measured: look at the checks.", "没有可统计的行，请查看检查结果。")));
    else drawNothing(answer.busy);
  }
  return element.dataset.busy === "true";
}

const now = keepAsking(ask);
new MutationObserver(() => { if (box.querySelector("[data-plot]")) drawPlots(); })
  .observe(document.body, { attributes: true, attributeFilter: ["class"] });
