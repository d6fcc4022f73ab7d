// The standings of the chosen arena, asked for at every vote, and now and then: others vote, too.
let shownFor = "", stamp = "";

async function ask() {
  const source = props.value;
  if (source !== shownFor) {
    [shownFor, stamp] = [source, ""];
    box.replaceChildren();
  }
  if (!source) return false;
  const answer = await server.look([source, stamp]);
  if (source !== props.value || !answer) return false;
  if (answer.error) box.replaceChildren(card("bad", answer.error));
  else {
    stamp = answer.stamp;
    box.innerHTML = answer.html; // escaped by the server
  }
  return false;
}

element.addEventListener("seedbed:look", keepAsking(ask));
