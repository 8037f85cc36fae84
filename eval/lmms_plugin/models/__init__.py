"""Models of this plugin, by the names that --model takes."""

AVAILABLE_MODELS = {"af3_server": "Af3Server"}
