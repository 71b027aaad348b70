"""The networks that turn feature maps into boxes."""
