// A player that follows the timeline: the cursor moves with the sound, and a click on anything with `data-ms` seeks.

const player = document.querySelector("#player");
const timeline = document.querySelector("svg.timeline");

if (player && timeline) {
  const cursor = timeline.querySelector("[data-cursor]");
  const left = Number(timeline.dataset.left);
  const width = timeline.viewBox.baseVal.width - left;
  const length = Number(timeline.dataset.lengthMs);
  const turns = [...document.querySelectorAll(".conversation [data-ms]")];
  document.body.classList.add("has-player");

  const show = () => {
    const ms = player.currentTime * 1_000;
    const x = left + Math.min(ms / length, 1) * width;
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    for (const turn of turns) {
      const now = Number(turn.dataset.ms) <= ms && ms < Number(turn.dataset.endMs);
      turn.classList.toggle("is-now", now);
    }
    if (!player.paused) requestAnimationFrame(show);
  };
  player.addEventListener("play", show);
  player.addEventListener("seeked", show);
  player.addEventListener("pause", show);

  document.addEventListener("click", (event) => {
    const place = event.target.closest?.("[data-ms]");
    if (!place || event.target.closest("a, button, summary")) return;
    player.currentTime = Number(place.dataset.ms) / 1_000;
    player.play();
  });
  timeline.addEventListener("click", (event) => {
    if (event.target.closest("[data-ms]")) return;
    const box = timeline.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * timeline.viewBox.baseVal.width;
    if (x < left) return;
    player.currentTime = (((x - left) / width) * length) / 1_000;
    player.play();
  });
}
