"""The application: settings, database, the steps of the pipeline, their processes, the command line, the web pages."""

__version__ = "0.1.0"
