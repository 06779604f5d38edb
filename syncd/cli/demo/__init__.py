"""`syncd demo`: the whole job on this machine, in one sitting."""
