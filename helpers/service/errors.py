"""The one error of the package, and how it is raised where something must hold."""


class CourseError(ValueError):
    """What a user can mend: one sentence that names the file or option and says what to do. Commands exit with 2."""


def require(holds: object, sentence: str) -> None:
    """Raise CourseError with this sentence where something does not hold."""
    if not holds:
        raise CourseError(sentence)
