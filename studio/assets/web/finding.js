// One finding: how grave, what, how often, what to do, and the rows, which lead to themselves.
const TONES = { fatal: "failed", warning: "stopping", info: "" };
const SEVERITIES = { fatal: say("fatal", "致命"), warning: say("warning", "警告"), info: say("note", "提示") };

function rowLinks(finding) {
  const line = make("p", "finding-rows", `${say("Rows", "行")} `);
  for (const row of finding.rows) line.append(button(count(row), () => trigger("select", { row }), "row-link"));
  if (finding.count > finding.rows.length) {
    const more = count(finding.count - finding.rows.length);
    line.append(say(`and ${more} more`, `等，另有 ${more} 行`));
  }
  return line;
}

function examples(finding) {
  const [first, ...others] = finding.examples;
  const lines = [make("p", "finding-example", first)];
  if (others.length) {
    const list = make("ul", "", ...others.map((text) => make("li", "", text)));
    lines.push(make("details", "", make("summary", "", say("More examples", "更多示例")), list));
  }
  return lines;
}

function findingCard(finding) {
  const node = make("section", `finding ${finding.severity}`);
  node.dataset.code = finding.code;
  const badge = make("span", `badge ${TONES[finding.severity]}`, SEVERITIES[finding.severity]);
  const title = make("b", "", say(finding.title, finding.zh.title));
  node.append(make("h4", "", badge, title, make("span", "finding-count", count(finding.count))));
  node.append(make("p", "", say(finding.advice, finding.zh.advice)));
  if (finding.examples.length) node.append(...examples(finding));
  if (finding.rows.length) node.append(rowLinks(finding));
  return node;
}
