// Draws one frame on a canvas with Cornerstone3D: window, polarity, pan and zoom.
// In: frames as frames.js holds them. Out: pixels, and coordinates there and back.
import { Enums, RenderingEngine, init, metaData, setUseCPURendering } from "@cornerstonejs/core";

// Images by Cornerstone's id, for its questions about them.
const shown = new Map();
let engine = null;
let count = 0;

function about(kind, id) {
  const image = shown.get(id);
  if (!image) return undefined;
  if (kind === "imagePixelModule") {
    return { photometricInterpretation: image.photometricInterpretation, samplesPerPixel: image.numberOfComponents };
  }
  if (kind === "imagePlaneModule") {
    return { rowPixelSpacing: image.rowPixelSpacing, columnPixelSpacing: image.columnPixelSpacing };
  }
  return kind === "generalSeriesModule" ? { modality: "OT" } : undefined;
}

function started() {
  if (engine === null) {
    // The same pixels in every browser, whatever its graphics driver: no WebGL.
    setUseCPURendering(true);
    init();
    setUseCPURendering(true);
    metaData.addProvider(about);
    engine = new RenderingEngine("viewer");
  }
  return engine;
}

// Makes of a frame what Cornerstone takes for an image.
function imageOf(frame) {
  const { about: values, pixels } = frame;
  const [rowStretch, columnStretch] = values.stretch;
  const isColour = values.kind === "rgb";
  return {
    imageId: frame.id,
    getPixelData: () => pixels,
    voxelManager: { getScalarData: () => pixels },
    minPixelValue: isColour ? 0 : values.min,
    maxPixelValue: isColour ? 255 : values.max,
    // Windows are brought to stored values, so that the look-up table has one entry for each of them.
    slope: 1,
    intercept: 0,
    windowCenter: 128,
    windowWidth: 256,
    voiLUTFunction: "LINEAR",
    rows: values.rows,
    columns: values.columns,
    height: values.rows,
    width: values.columns,
    color: isColour,
    rgba: false,
    numberOfComponents: isColour ? 3 : 1,
    photometricInterpretation: isColour ? "RGB" : "MONOCHROME2",
    rowPixelSpacing: rowStretch,
    columnPixelSpacing: columnStretch,
    invert: false,
    sizeInBytes: pixels.byteLength,
  };
}

export class Picture {
  constructor(element) {
    this.element = element;
    this.id = `picture-${++count}`;
    started().enableElement({ viewportId: this.id, element, type: Enums.ViewportType.STACK });
    this.frame = null;
    this.isFitted = true;
  }

  get viewport() {
    return started().getViewport(this.id);
  }

  // Shows a frame through a window { low, high } of modality values.
  show(frame, window, inverted) {
    const last = this.frame;
    const same = last && ["rows", "columns", "stretch"].every((key) => `${last.about[key]}` === `${frame.about[key]}`);
    if (last !== frame) {
      if (last) shown.delete(last.id);
      frame.image ??= imageOf(frame);
      shown.set(frame.id, frame.image);
      this.frame = frame;
      this.viewport.renderImageObject(frame.image);
      if (!same) this.#fit();
    }
    const slope = frame.about.slope ?? 1;
    const intercept = frame.about.intercept ?? 0;
    const bounds = [(window.low - intercept) / slope, (window.high - intercept) / slope];
    const falls = slope < 0;
    this.viewport.setProperties({
      voiRange: { lower: falls ? bounds[1] : bounds[0], upper: falls ? bounds[0] : bounds[1] },
      invert: inverted !== falls,
    });
    this.viewport.render();
  }

  fit() {
    if (!this.frame) return;
    this.#fit();
    this.viewport.render();
  }

  #fit() {
    this.viewport.resetCamera();
    this.isFitted = true;
  }

  // Follows the size of the element; a picture that filled it fills it again.
  resize() {
    started().resize(true, false);
    if (!this.frame) return;
    if (this.isFitted) this.#fit();
    this.viewport.render();
  }

  panBy(dx, dy) {
    this.#moved(this.viewport.canvasToWorld([0, 0]), this.viewport.canvasToWorld([dx, dy]));
  }

  zoomBy(factor, at) {
    const before = this.viewport.canvasToWorld(at);
    const zoom = this.viewport.getZoom() * factor;
    this.viewport.setZoom(Math.min(Math.max(zoom, 0.02), 64));
    this.#moved(this.viewport.canvasToWorld(at), before, -1);
  }

  // Brings what lies at one place to another.
  #moved(from, to, sign = 1) {
    const { focalPoint } = this.viewport.getCamera();
    this.isFitted = false;
    this.viewport.setCamera({ focalPoint: focalPoint.map((value, axis) => value - sign * (to[axis] - from[axis])) });
    this.viewport.render();
  }

  // Column and row (0, 0 is the outer corner of the first pixel) -> place on the element, and back.
  placeOf(column, row) {
    const [rowStretch, columnStretch] = this.frame.about.stretch;
    return this.viewport.worldToCanvas([column * columnStretch, row * rowStretch, 0]);
  }

  pixelAt(x, y) {
    const [rowStretch, columnStretch] = this.frame.about.stretch;
    const [across, down] = this.viewport.canvasToWorld([x, y]);
    return [Math.floor(across / columnStretch), Math.floor(down / rowStretch)];
  }

  // Place on the element -> how far right and down it lies, as shares of the picture, 0 to 1.
  shareAt(x, y) {
    const { stretch, rows, columns } = this.frame.about;
    const [across, down] = this.viewport.canvasToWorld([x, y]);
    const within = (share) => Math.min(Math.max(share, 0), 1);
    return [within(across / stretch[1] / columns), within(down / stretch[0] / rows)];
  }

  // Share of the picture's own size at which it is shown.
  get scale() {
    const [x0] = this.placeOf(0, 0);
    const [x1] = this.placeOf(this.frame.about.columns, 0);
    return (x1 - x0) / this.frame.about.columns;
  }

  end() {
    if (this.frame) shown.delete(this.frame.id);
    this.frame = null;
    started().disableElement(this.id);
  }
}
