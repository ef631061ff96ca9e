"""What the parties promise each other, and what several hosts may assume."""
