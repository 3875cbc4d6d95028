"""What every app on this host has in common. Managed by Slipway (roles/app.py); the rest is in the app's unit."""

worker_class = "uvicorn_worker.UvicornWorker"
# Only nginx can open the socket, and it sets every forwarded header itself.
forwarded_allow_ips = "*"
# Heartbeats of the workers: on a disk they would stall with it (docs.gunicorn.org/en/stable/faq.html).
worker_tmp_dir = "/dev/shm"
# nginx writes the access log, buffered; in the app it costs half the throughput.
accesslog = None
errorlog = "-"
control_socket_disable = True
