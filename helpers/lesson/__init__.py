"""What the notebooks show and check: plots, widgets, quizzes, exercises; nothing else imports these."""
