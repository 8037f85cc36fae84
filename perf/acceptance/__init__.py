"""`make acceptance GPU=…`: one command for whoever has the GPU; a report to send back."""
