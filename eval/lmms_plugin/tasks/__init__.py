"""Tasks of this plugin: the sets of lmms-eval with the prompts that give the published figures (`--tasks af3_mmar`)."""
