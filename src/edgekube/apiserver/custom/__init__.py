"""Custom resources: serving what CustomResourceDefinitions define."""
