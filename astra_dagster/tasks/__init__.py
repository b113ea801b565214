"""The task abstraction, and the tasks that come with the package."""
