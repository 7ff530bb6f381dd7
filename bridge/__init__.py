"""What Flowith's models lack, done in words: tools, JSON answers, and what filters do to events."""
