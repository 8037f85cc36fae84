"""`make acceptance GPU=…`: tests a GPU with one command and writes a report to send back."""
