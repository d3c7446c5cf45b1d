"""The floor that speaks to Label Studio and to people: protocol, sync, command line."""
