// One picture asked of the service, made from words or from words and other pictures. Knows nothing
// of the page.

import { brokeOff, inWords, post, readEvents } from "./ask.js";

/**
 * Returns the picture as a data: URL. Throws a Failure; when `signal` aborts, the request is closed
 * and fetch's AbortError goes through.
 */
export async function draw({ root, key, model, prompt, images, signal }) {
  const path = images.length ? "edits" : "generations";
  const body = { model, prompt, stream: true };
  if (images.length) body.images = images.map((url) => ({ image_url: url }));
  const { response, id } = await post(`${root}v1/images/${path}`, { key, body, signal });
  try {
    for await (const data of readEvents(response.body)) {
      const { error, b64_json: file, output_format: kind } = JSON.parse(data);
      if (error) throw inWords(error, 502, id);
      if (file) return `data:image/${kind};base64,${file}`;
    }
  } catch (wrong) {
    throw brokeOff(wrong, signal, id);
  }
  throw brokeOff(null, signal, id); // the end came without a picture
}
