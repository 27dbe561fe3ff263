"""Generated stubs of clara_platform.proto; made by `make stubs`, never edited."""
