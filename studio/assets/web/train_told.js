// The line above the Train form: how it came to be filled.
const afresh = button(say("Start afresh", "重新开始"), () => {
  document.dispatchEvent(new Event("seedbed:afresh"));
  trigger("afresh", {});
}, "row-link");
afresh.id = "train-afresh";

function draw() {
  box.innerHTML = props.value;
  box.querySelector(".kept")?.replaceChildren(say("Kept from before", "已保留上次填写的内容"), " · ", afresh);
}

watch("value", draw);
draw();
