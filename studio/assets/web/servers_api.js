// How other programs ask a server: its address, the command that sets the key, and programs to copy.
function apiView(run) {
  const node = make("div", "api");
  let told = "", model = "", chosen = "ask.py";

  function tabs(offered) {
    const row = make("div", "api-tabs");
    row.setAttribute("role", "tablist");
    for (const { name, title } of offered) {
      const tab = button(title, () => { chosen = name; draw(JSON.parse(told)); node.querySelector("[aria-selected=true]").focus(); });
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-selected", name === chosen);
      row.append(tab);
    }
    return row;
  }

  function models(answer) {
    const select = make("select", "small");
    select.setAttribute("aria-label", say("Model", "模型"));
    for (const name of answer.models) select.append(new Option(name, name, false, name === answer.model));
    select.addEventListener("change", () => { model = select.value; ask(); });
    return make("p", "", say("Ask as ", "模型名 "), select);
  }

  function draw(answer) {
    const { code, name } = answer.snippets.find((each) => each.name === chosen);
    const needs = name.endsWith(".py") ? "pip install openai" : name.endsWith(".mjs") ? "Node 18+" : "";
    node.replaceChildren(
      make("p", "", say("An OpenAI-compatible server. It listens on this machine only: from another one, ", "兼容 OpenAI 的服务，仅监听本机；从其他机器访问请先 "), make("code", "", `ssh -L ${new URL(answer.url).port}:127.0.0.1:${new URL(answer.url).port} …`)),
      make("h4", "", say("Address", "地址")), copied("url", answer.url),
      make("h4", "", say("Key: set it once in your terminal, in the studio's folder", "密钥：在终端中（studio 目录下）设置一次")), copied("key", answer.key),
      models(answer), tabs(answer.snippets), copied("code", code),
      make("p", "empty", say(`Save it as ${name}. `, `保存为 ${name}。`), needs && say(`Needs ${needs}.`, `需要 ${needs}。`)),
    );
  }

  async function ask() {
    const answer = await server.api(run, model);
    const now = JSON.stringify(answer);
    if (now === told) return; // what is selected in it stays
    told = now;
    if (answer.error) node.replaceChildren(hint(answer.error));
    else draw(answer);
  }
  return { node, ask };
}
