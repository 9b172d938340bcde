"""`aidevos doctor`: checks of a fleet, one module for each subject, each of which says what to do."""
