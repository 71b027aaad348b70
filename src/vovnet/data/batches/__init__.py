"""What gets training images into a batch: loader processes, the image cache, resizing, drawing on the device."""
