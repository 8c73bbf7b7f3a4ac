"""From a question to a cited answer: the stages joined."""
