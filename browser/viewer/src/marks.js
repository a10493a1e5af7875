// What the model saw and found, drawn over the picture: its boxes, and the part that was not made black.
import { makeSvg } from "./page.js";

export function drawMarks({ picture, parts, list, index, loaded, own }) {
  const drawn = [];
  for (const { area } of list.inputs.filter((one) => one.area && one.at.includes(index))) {
    const [left, top, right, bottom] = area;
    const corners = [[left, top], [right, top], [right, bottom], [left, bottom]];
    drawn.push(makeSvg("polygon", { class: "viewer-area", points: points(picture, corners) }));
  }
  for (const { outline, label } of list.boxes.filter((one) => one.at === index)) {
    drawn.push(makeSvg("polygon", { class: "viewer-box", points: points(picture, outline) }));
    const [x, y] = picture.placeOf(...outline[0]);
    drawn.push(makeSvg("text", { class: "viewer-label", x: x + 3, y: y - 4 }, label));
  }
  if (index === ownPlace(list)) for (const one of own.boxes) drawn.push(...drawnOwn(picture, loaded.about, one));
  parts.marks.replaceChildren(...drawn);
}

// The picture that a person's own boxes lie on: the only one that the model saw; null where it saw several.
export function ownPlace(list) {
  return list.inputs.length === 1 ? list.inputs[0].shown : null;
}

function drawnOwn(picture, { rows, columns }, { box, label }) {
  const [top, left, bottom, right] = [box[0] * rows, box[1] * columns, box[2] * rows, box[3] * columns];
  const corners = [[left, top], [right, top], [right, bottom], [left, bottom]];
  const [x, y] = picture.placeOf(left, bottom);
  return [
    makeSvg("polygon", { class: "viewer-own", points: points(picture, corners) }),
    makeSvg("text", { class: "viewer-label is-own", x: x + 3, y: y + 14 }, label),
  ];
}

function points(picture, corners) {
  return corners.map(([column, row]) => picture.placeOf(column, row).map((value) => value.toFixed(1)).join(",")).join(" ");
}

// Says in a few words what the model has to do with a picture; nothing where there is no model.
export function sightInWords(list, index) {
  if (!list.inputs.length) return { words: "", kind: "" };
  const about = list.inputs.filter((one) => one.shown === index);
  if (about.some((one) => one.is_key)) return { words: "key image: the model saw it", kind: "key" };
  if (about.length) return { words: "the model saw it", kind: "seen" };
  const isPart = list.inputs.some((one) => one.at.includes(index));
  return isPart ? { words: "part of what the model saw", kind: "seen" } : { words: "not seen by the model", kind: "" };
}

// Says which of the model's pictures `inputFor` has found, and what it is made of.
export function inputInWords(list, index, { input, isHere }) {
  const which = `Model input ${input.input} of ${list.inputs.length}`;
  const made = input.at.length > 1 ? `, made of pictures ${input.at.map((place) => place + 1).join(", ")}` : "";
  if (isHere) return input.shown === index || input.shown === null ? `${which}: this picture${made}` : `${which}: about picture ${input.shown + 1}${made}`;
  const where = input.shown === null ? "" : ` (picture ${input.shown + 1}${made})`;
  return `The model did not see this picture. Nearest: ${which.toLowerCase()}${where}`;
}

// Returns the model's picture that a frame is in, else the one nearest to it.
export function inputFor(list, index) {
  const here = list.inputs.find((one) => one.shown === index) ?? list.inputs.find((one) => one.at.includes(index));
  if (here) return { input: here, isHere: true };
  const apart = (one) => (one.shown === null ? Infinity : Math.abs(one.shown - index));
  return { input: list.inputs.reduce((a, b) => (apart(b) < apart(a) ? b : a)), isHere: false };
}
