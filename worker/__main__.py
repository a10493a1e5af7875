"""`python -m worker` is `dicom-worker`."""

from worker.cli import main

if __name__ == "__main__":
    main()
