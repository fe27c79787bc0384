"""What all explorers share: the widget, its controls and charts, and how data travel to the browser."""
