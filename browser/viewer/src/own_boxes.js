// The boxes that a person gives: shown beside those of the model, and drawn with the mouse or a finger.
// In: boxes as shares of the picture, [top, left, bottom, right]. Out: one, to whoever asked for it.
import { drawMarks, ownPlace } from "./marks.js";
import { makeSvg } from "./page.js";

export class OwnBoxes {
  constructor(viewer) {
    this.viewer = viewer;
    this.boxes = [];
    this.done = null;
  }

  get isDrawing() {
    return this.done !== null;
  }

  // Shows boxes: [{ box, label }].
  show(boxes) {
    this.boxes = boxes;
    if (this.viewer.frame) drawMarks(this.viewer);
  }

  // Lets the next drag draw a box; `done` gets it.
  async draw(done) {
    const { viewer } = this;
    const place = ownPlace(viewer.list);
    if (place === null) return;
    await viewer.goTo(place);
    this.done = done;
    viewer.parts.pane.dataset.mode = "draw";
    viewer.say("Press at one corner of the box and release at the other; Esc leaves it.");
    viewer.root.focus({ preventScroll: true });
  }

  outline([x0, y0], [x1, y1]) {
    if (!this.viewer.frame) return;
    const box = { x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0) };
    drawMarks(this.viewer);
    this.viewer.parts.marks.append(makeSvg("rect", { class: "viewer-own", ...box }));
  }

  // Ends drawing with two corners, or with none.
  end(corners) {
    const { viewer, done } = this;
    this.done = null;
    viewer.setMode(viewer.mode);
    if (!viewer.frame) return;
    viewer.say("");
    drawMarks(viewer);
    if (!done || !corners) return;
    const [first, second] = corners.map(([x, y]) => viewer.picture.shareAt(x, y));
    const sides = [0, 1].map((axis) => [first[axis], second[axis]].sort((a, b) => a - b));
    done([sides[1][0], sides[0][0], sides[1][1], sides[0][1]]);
  }
}
