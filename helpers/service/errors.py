"""The one error of the package."""


class CourseError(ValueError):
    """What a user can mend: one sentence that names the file or option and says what to do. Commands exit with 2."""
