// A benchmark: how far it is, then its figures as bars and as a table. The value is the run's id.
const SHADES = ["--curve-main", "--curve-second", "--curve-third", "--curve-fourth", "--curve-faint", "--curve-text"];
const HEADS = [
  say("Who answers", "方式"), say("Clients", "并发"), say("Tokens/s", "Token/秒"), say("Times vLLM", "相对 vLLM"),
  say("First token, ms: p50 / p95", "首 token（毫秒）p50 / p95"), say("Between tokens, ms: p50 / p95", "token 间隔（毫秒）p50 / p95"),
  say("Memory, GB", "内存 GB"), say("KV cache", "KV 缓存"),
];
let shown = "", stamp = "";

const figure = (value, digits = 1) => value === null ? "—" : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const pair = (middle, high) => middle === null ? "—" : `${figure(middle)} / ${figure(high)}`;
const loadOf = (row) => `${row.prompt_tokens} + ${row.output_tokens}`;

function share(rows, row) {
  const vllm = rows.find((other) => other.variant === "vllm" && other.clients === row.clients);
  return vllm ? `${(row.tokens_per_s / vllm.tokens_per_s).toFixed(2)} ×` : "—";
}

function cells(rows, row) {
  const memory = row.gpu_gb === null ? figure(row.memory_gb, 2) : `${figure(row.memory_gb, 2)} + GPU ${figure(row.gpu_gb)}`;
  const cache = row.kv_used === null ? "—" : `${(100 * row.kv_used).toFixed(1)} % ${say("of", "/")} ${count(row.kv_blocks)}`;
  return [
    row.name, String(row.clients), figure(row.tokens_per_s, 0), share(rows, row), pair(row.ttft_p50_ms, row.ttft_p95_ms),
    pair(row.gap_p50_ms, row.gap_p95_ms), memory, cache,
  ];
}

function table(rows) {
  const head = make("tr", "", ...HEADS.map((text) => make("th", "", text)));
  const body = rows.map((row) => make("tr", "", ...cells(rows, row).map((text) => make("td", "", text))));
  return make("div", "bench-scroll", make("table", "bench-table", make("thead", "", head), make("tbody", "", ...body)));
}

// one colour a way of answering; a whisker from the slowest to the fastest measurement
function bars(rows, height, whisker) {
  return [...new Set(rows.map((row) => row.name))].map((name, index) => {
    const own = rows.filter((row) => row.name === name);
    const bar = { type: "bar", name, x: own.map((row) => String(row.clients)), y: own.map(height), marker: { color: color(SHADES[index % SHADES.length]) } };
    if (whisker) {
      bar.error_y = {
        type: "data", symmetric: false, thickness: 1, array: own.map((row) => row.fastest - row.tokens_per_s),
        arrayminus: own.map((row) => row.tokens_per_s - row.slowest),
      };
    }
    return bar;
  });
}

async function draw(place, title, traces, log) {
  const library = await plotly();
  const layout = plainLayout(title, say("clients at once", "并发数"), 280);
  const vertical = log ? { ...layout.yaxis, type: "log" } : { ...layout.yaxis, rangemode: "tozero" };
  const legend = { orientation: "h", y: -0.25 };
  library.react(place, traces, { ...layout, barmode: "group", xaxis: { ...layout.xaxis, type: "category" }, yaxis: vertical, legend, margin: { ...layout.margin, b: 60 } }, { displayModeBar: false, responsive: true });
}

function load(name, rows) {
  const speed = make("div", "bench-plot"), first = make("div", "bench-plot");
  const made = make("section", "", make("h4", "", say(`Prompt + answer: ${name} tokens`, `提示词 + 回答：${name} token`)), make("div", "plots bench-plots", speed, first), table(rows));
  requestAnimationFrame(() => {
    draw(speed, say("Tokens per second, all clients together", "每秒 token（所有客户端合计）"), bars(rows, (row) => row.tokens_per_s, true), false);
    draw(first, say("First token, ms (median)", "首 token（毫秒，中位数）"), bars(rows, (row) => row.ttft_p50_ms, false), true);
  });
  return made;
}

function figures(results) {
  const rows = results?.rows ?? [];
  const names = [...new Set(rows.map(loadOf))];
  const failed = Object.entries(results?.failed ?? {}).map(([name, why]) => card("bad", make("b", "", name), ` ${why}`));
  return [...names.map((name) => load(name, rows.filter((row) => loadOf(row) === name))), ...failed];
}

function left(seconds) {
  if (!seconds) return "";
  return seconds < 60 ? ` · ${Math.ceil(seconds)} s` : ` · ${Math.ceil(seconds / 60)} min`;
}

function going(told) {
  const stop = button(say("Stop", "停止"), () => { stop.disabled = true; server.stop(told.id).then(look); });
  stop.disabled = told.state === "stopping";
  stop.id = "bench-stop";
  const bar = make("div", "bar", make("i", ""));
  bar.firstChild.style.width = `${(100 * (told.progress ?? 0)).toFixed(1)}%`;
  return make("div", "card wait", make("p", "", make("b", "", told.name), ` ${told.message}${left(told.eta_s)} `, stop), bar);
}

function over(told) {
  const copy = button(say("Copy as Markdown", "复制为 Markdown"), async () => {
    await navigator.clipboard.writeText(told.report);
    copy.textContent = say("Copied", "已复制");
  });
  const where = told.results?.machine ? ` · ${told.results.machine}` : "";
  const line = make("p", "", make("span", `badge ${told.state}`, told.state), " ", make("b", "", told.name), where, " ");
  if (told.report) line.append(copy);
  const why = told.state === "failed" || told.state === "lost" ? [card("bad", told.message)] : [];
  return make("div", "", line, ...why);
}

function show(told) {
  if (told.state === "none") return box.replaceChildren(hint(say("Nothing was measured yet. Choose a model above and press Measure.", "尚无测量结果。请在上方选择模型并点击开始测量。")));
  box.replaceChildren(told.active ? going(told) : over(told), ...figures(told.results));
  box.dataset.state = told.state;
}

async function ask() {
  const run = props.value || "";
  if (run !== shown) [shown, stamp] = [run, ""];
  const told = await server.results([run, stamp]);
  if (run !== (props.value || "")) return true;
  if (told) {
    stamp = told.stamp;
    box.dataset.active = told.active ? "yes" : "";
    show(told);
  }
  return box.dataset.active === "yes";
}

const look = keepAsking(ask);
