"""2D images of seven modalities, six kinds of question: class, labels, boxes, count, measurement, report."""
