// Puts what the server sends into each element with `data-live`. The server makes the HTML, and escapes what callers said.

const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;

const status = document.createElement("p");
status.className = "live-status";
status.setAttribute("role", "status");
document.body.append(status);
const lost = new Set();

function tell() {
  status.textContent = lost.size > 0 ? "Not connected: this page may be old." : "";
}

/** Keeps `element` as the server says. Returns a function that stops it. */
export function follow(element, url) {
  let source;
  let timer;
  let shown;
  let pause = FIRST_PAUSE;
  const open = () => {
    source = new EventSource(url);
    source.onopen = () => {
      pause = FIRST_PAUSE;
      lost.delete(element);
      tell();
    };
    source.onmessage = ({ data }) => {
      if (data !== shown) put(element, data);
      shown = data;
    };
    source.addEventListener("over", () => source.close());
    source.onerror = () => {
      // A browser gives up for good after some answers, so this tries by itself.
      source.close();
      lost.add(element);
      tell();
      timer = setTimeout(open, pause * (0.75 + Math.random() / 2));
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    };
  };
  open();
  return () => {
    clearTimeout(timer);
    source.close();
    lost.delete(element);
    tell();
  };
}

/** New content, with the focus and the scroll position of the old one. */
function put(element, html) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const key = focused && (focused.getAttribute("href") ?? focused.id);
  const atEnd = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
  const top = element.scrollTop;
  element.innerHTML = html;
  element.scrollTop = atEnd ? element.scrollHeight : top;
  if (key) {
    const again = [...element.querySelectorAll("a[href], [id]")].find(
      (found) => found.getAttribute("href") === key || found.id === key,
    );
    again?.focus({ preventScroll: true });
  }
}

for (const element of document.querySelectorAll("[data-live]")) follow(element, element.dataset.live);
