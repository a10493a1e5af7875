// Stands in for vtk.js, which draws volumes and draws with WebGL: this viewer draws stacks on a 2D canvas, and
// Cornerstone then calls nothing of it. What is asked of it while modules load is answered with itself.
const absent = new Proxy(function () {}, {
  get(target, name) {
    if (name === "__esModule") return false;
    if (name === Symbol.toPrimitive) return () => 0;
    return name === "prototype" ? target.prototype : absent;
  },
  apply: () => absent,
  construct: () => ({}),
  set: () => true,
});
module.exports = absent;
