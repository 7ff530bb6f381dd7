// Pictures made small enough to send. Knows nothing of the page.

const LONGEST = 1536; // pixels; models scale down what is larger
const QUALITY = 0.85;

/**
 * An image, file or element, as a data: URL of a JPEG of at most a few hundred kB. Drawing it anew
 * also leaves behind what a camera writes into a photo, such as the place. Throws where the file is
 * no image.
 */
export async function shrink(file) {
  const picture = await createImageBitmap(file);
  const scale = Math.min(1, LONGEST / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // JPEG has no transparency
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  picture.close();
  return canvas.toDataURL("image/jpeg", QUALITY);
}
