"""The aggregation layer: APIServices, and the extension servers behind some of them."""
