"""The scheme's rows, one module a group; import only what you serve: types cost memory."""
