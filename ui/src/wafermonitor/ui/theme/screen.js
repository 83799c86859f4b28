// The line between one session in Python and the page. In: the model of `Screen`. Out: page.js gets what to show, Python the messages.
// The page itself lives in the document, outside any shadow root, so that one style sheet and one reading order hold for all of it.
export async function render({model}) {
  const page = await window.waferPage;
  page.connect({
    send: (message) => model.send_msg(message),
    read: () => model.shown,
    changed: (callback) => model.on("shown", callback),
  });
}
