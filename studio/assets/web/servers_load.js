// The load of one server: figures of now, and charts that grow. Asks for what is new since a cursor.
const LOAD_MS = 1000, POINTS_MAX = 4000;
const SPANS = [[600, say("10 minutes", "10 分钟")], [3600, say("1 hour", "1 小时")], [0, say("everything", "全部")]];
// name -> title, its series (by name: label), and what its values are multiplied by
const CHARTS = {
  speed: [say("Tokens per second", "每秒 token 数"), { generated_per_s: say("written", "生成"), read_per_s: say("prompts read", "读入提示词") }, 1],
  ttft: [say("Time to first token (s)", "首个 token 延迟（秒）"), { ttft_s: "TTFT" }, 1],
  requests: [say("Requests", "请求数"), { running: say("running", "运行中"), waiting: say("waiting", "等待中") }, 1],
  blocks: [say("KV cache (blocks in use)", "KV 缓存（已用块数）"), { blocks: say("blocks", "块") }, 1],
  hits: [say("Prompt tokens found in the prefix cache (%)", "前缀缓存命中的提示词 token（%）"), { hit_share: "%" }, 100],
};

const SPARSE = ["ttft_s", "hit_share"]; // of what happens now and then: a lone point has no line
const WORK = ["generated_per_s", "read_per_s", "running"];
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const latest = (points) => points?.[1].findLast((value) => value !== null) ?? null;
// Plotly takes a time without a zone as it stands
const local = (seconds) => new Date((seconds - new Date(seconds * 1000).getTimezoneOffset() * 60) * 1000).toISOString().slice(0, 23);

function tile(name, value, more = "") {
  return make("div", "tile", make("small", "", name), make("b", "", value), make("small", "", more));
}

// Of what a server without a paged cache does not tell there is no tile.
function tiles(last, now) {
  const made = [
    tile(say("Requests", "请求"), say(`${last.running} running`, `${last.running} 运行`), say(`${last.waiting} waiting`, `${last.waiting} 等待`)),
    tile(say("Written", "生成"), `${short.format(now.generated_per_s ?? 0)} ${say("tokens/s", "token/秒")}`, say(`${count(last.generation_tokens)} in all`, `共 ${count(last.generation_tokens)}`)),
    tile(say("First token", "首个 token"), now.ttft_s === null ? "–" : now.ttft_s < 1 ? `${(now.ttft_s * 1000).toFixed(0)} ms` : `${now.ttft_s.toFixed(1)} s`, say(`${count(last.ttft_count)} answers`, `${count(last.ttft_count)} 次回答`)),
  ];
  if (last.kv_blocks !== null) {
    const blocks = last.kv_blocks - 1; // vLLM keeps one for itself
    made.push(tile(say("KV cache", "KV 缓存"), `${count(now.blocks ?? 0)} / ${count(blocks)}`, say(`blocks of ${last.block_tokens} tokens`, `块，每块 ${last.block_tokens} token`)));
  }
  if (last.prefix_queries) {
    const share = (100 * last.prefix_hits) / last.prefix_queries;
    made.push(tile(say("Prefix cache", "前缀缓存"), `${share.toFixed(0)} %`, say("of all prompt tokens", "占全部提示词 token")));
  }
  if (last.preemptions) made.push(tile(say("Put back", "被抢占"), count(last.preemptions), say("for want of blocks", "因块不足")));
  return made;
}

// `{ node, ask }`: where it is drawn, and how it looks for what is new.
function loadView(run) {
  const figures = make("div", "tiles"), grid = make("div", "load-charts"), span = make("select", "small");
  const empty = hint(say("Nobody has asked this server anything yet. Its load appears here with the first question.", "还没有请求。收到第一个请求后，这里会显示负载。"));
  const node = make("div", "load", figures, empty, make("label", "load-span", say("Show the last ", "显示最近"), span), grid);
  for (const [seconds, text] of SPANS) span.append(new Option(text, seconds));
  let cursor = null, points = 0, shown = [], now = {}, first = 0, last = null, due = 0, held = false;

  const times = () => {
    if (!Number(span.value)) return { autorange: true };
    const begin = Math.max(first, last.at - Number(span.value)), end = Math.max(last.at, begin + 30);
    return { autorange: false, range: [local(begin), local(end + (end - begin) / 50)] };
  };

  function layout(name) {
    const plain = plainLayout(CHARTS[name][0], "", 200), lines = Object.keys(CHARTS[name][1]).length;
    Object.assign(plain.xaxis, { type: "date", ...times() });
    Object.assign(plain.yaxis, name === "hits" ? { range: [0, 102] } : { rangemode: "tozero" });
    return { ...plain, showlegend: lines > 1, hovermode: "x unified", uirevision: `${run}${span.value}` };
  }

  function traces(name, series) {
    const [, labels, factor] = CHARTS[name];
    return Object.entries(labels).filter(([key]) => series[key]).map(([key, label], index) => ({
      type: "scatter", mode: SPARSE.includes(key) ? "lines+markers" : "lines", connectgaps: SPARSE.includes(key), marker: { size: 4 }, name: label,
      line: { width: 1.5, shape: SPARSE.includes(key) ? "linear" : "vh", color: color(index ? "--curve-second" : "--curve-main") },
      x: series[key][0].map(local), y: series[key][1].map((value) => value && value * factor), meta: key,
    }));
  }

  async function draw(series) {
    const library = await plotly();
    shown = Object.keys(CHARTS).filter((name) => traces(name, series).length);
    grid.replaceChildren(...shown.map((name) => grid.querySelector(`[data-chart=${name}]`) ?? chart(name)));
    for (const name of shown) {
      const plot = grid.querySelector(`[data-chart=${name}]`);
      await library.react(plot, traces(name, series), layout(name), { responsive: true, displayModeBar: false });
      if (!plot.dataset.watched) plot.on("plotly_relayouting", () => { held = true; });
      plot.dataset.watched = "yes";
    }
  }

  function chart(name) {
    const made = make("div");
    made.dataset.chart = name;
    return made;
  }

  async function extend(series) {
    const library = await plotly();
    for (const name of shown) {
      const plot = grid.querySelector(`[data-chart=${name}]`), fresh = traces(name, series);
      const places = fresh.map(({ meta }) => plot.data.findIndex((trace) => trace.meta === meta));
      if (places.length) await library.extendTraces(plot, { x: fresh.map(({ x }) => x), y: fresh.map(({ y }) => y) }, places);
      if (!held && Number(span.value)) await library.relayout(plot, { "xaxis.range": times().range });
    }
  }

  const isNew = (series) => Object.entries(CHARTS).some(([name, [, labels]]) => Object.keys(labels).some((key) => series[key]) && !shown.includes(name));

  async function ask() {
    if (performance.now() < due) return;
    due = performance.now() + LOAD_MS;
    const answer = await server.load(run, cursor);
    if (answer.error || !answer.last) return;
    last = answer.last;
    for (const [key, series] of Object.entries(answer.series)) now[key] = SPARSE.includes(key) ? latest(series) ?? now[key] : series[1].at(-1);
    now.ttft_s ??= null;
    figures.replaceChildren(...tiles(last, now));
    if (!shown.length && !WORK.some((key) => answer.series[key]?.[1].some(Boolean))) return; // nothing to draw: look at all of it again
    empty.hidden = true;
    const known = Object.values(answer.series)[0]?.[0].length ?? 0, all = answer.anew;
    if (!all && (isNew(answer.series) || points > POINTS_MAX)) { cursor = null; points = due = 0; return; } // draw all of it anew
    cursor = answer.cursor;
    if (all && known) first = Object.values(answer.series)[0][0][0];
    points = all ? known : points + known;
    if (known) await (all ? draw(answer.series) : extend(answer.series));
    node.dataset.points = points;
  }

  const anew = () => { cursor = null; due = 0; held = false; ask(); };
  span.addEventListener("change", anew);
  new MutationObserver(anew).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  return { node, ask };
}
