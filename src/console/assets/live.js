// Puts what the server sends into each element with `data-live`.
for (const element of document.querySelectorAll("[data-live]")) {
  new EventSource(element.dataset.live).onmessage = (event) => {
    element.innerHTML = event.data;
  };
}
