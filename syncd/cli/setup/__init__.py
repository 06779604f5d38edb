"""`syncd init`: questions, answers, and the files they become."""
