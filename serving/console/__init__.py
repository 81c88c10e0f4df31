"""The console: pages for a person with a browser, over the same service as the API."""
