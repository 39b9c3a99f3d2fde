"""Pictures, and answers about them."""
