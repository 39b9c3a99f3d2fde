"""Speed, accuracy and their floors, measured and written down."""
